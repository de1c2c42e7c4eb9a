"""What a run tells a tracking server: written to a journal first, sent by a process of its own. Imports no torch."""
