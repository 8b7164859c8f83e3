"""Choice: candidates as covers, priced, and one constraint program that picks among them."""
