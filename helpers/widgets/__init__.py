"""What can be touched: explorers over numbers that a real model computed."""
