"""A trained agent behind HTTP, and the page of a person who corrects it. Needs the extra ``serve``."""
