"""Everything on one machine with nothing installed: embedded servers, a supervisor, the demo."""
