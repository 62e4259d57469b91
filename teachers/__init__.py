"""What is attacked, and how any network here is trained."""
