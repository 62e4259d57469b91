"""What an audit will take, before anything is trained."""
