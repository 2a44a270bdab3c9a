package agent

// Unread is what is said of a certificate that cannot be read.
var Unread = unread
