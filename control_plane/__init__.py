"""The stateless HTTP side: offers, inputs and output streams. Any replica serves any connection."""
