"""What people read: a plan as text for a terminal and as Markdown for a review. Plans in, text out."""
