"""What reproduces the tables and comparisons of the documents. Nothing of the product needs it."""
