"""The commands behind the course: refresh, compare and run notebooks."""
