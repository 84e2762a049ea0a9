"""What is asked of whom, and what they answered."""
