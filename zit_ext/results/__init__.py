"""The room of results: answers by key, on disk and in memory, shared by every process of this user."""
