"""The main job, shown from end to end on a real pipeline: what is measured, and in which process."""
