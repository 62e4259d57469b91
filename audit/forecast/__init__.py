"""`audit plan`: predict what an audit would cost and which margins it could detect."""
