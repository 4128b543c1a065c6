"""The model room: weights kept near the GPU and lent out, and what is known of their files."""
