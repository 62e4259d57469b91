"""The commands: what each is given and which code it exits with; what is heavy is imported inside them."""

OK, COMMAND_LINE, BUG, INTERRUPTED = 0, 2, 70, 130
EXIT = {"UNDISTILLABLE": OK, "DISTILLABLE": 1, "INCONCLUSIVE": 3}
