"""One run: its configuration, record and folder; training, testing, callbacks, pictures, report."""
