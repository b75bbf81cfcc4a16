"""How good are label images? Scored as the challenge's organisers do it; usable without app/."""
