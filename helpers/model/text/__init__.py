"""An answer as text: pieces of whole characters, and stop strings."""
