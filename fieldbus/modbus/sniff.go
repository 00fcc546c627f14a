package modbus

// FrameAt returns the length of the well-formed Modbus frame that b begins with,
// a request or an answer of whatever device, or 0. Somebody who only listens
// learns from it that the line is in use; one in 65536 chance bytes looks like
// a frame.
func FrameAt(b []byte) int { return frameAt(b) }
