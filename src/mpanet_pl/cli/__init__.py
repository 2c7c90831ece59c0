"""What was typed: composed, checked, a mistake told as a sentence. The doors alone import it."""
