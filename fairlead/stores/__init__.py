"""Where configuration is kept, in the program: from settings to a source that the API writes to."""
