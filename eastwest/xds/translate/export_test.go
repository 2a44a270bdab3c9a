package translate

// For the test of the encoding by hand.
var (
	Assignment       = assignment
	AppendAssignment = appendAssignment
)
