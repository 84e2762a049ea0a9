"""What is asked, of whom, and which question is next."""
