package hub

import (
	uberzap "go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapLevel maps klog's verbosity (0 to 9, more is more) to zap's (negative is more).
func zapLevel(verbosity int) uberzap.AtomicLevel {
	return uberzap.NewAtomicLevelAt(zapcore.Level(-min(max(verbosity, 0), 9)))
}

// textEncoder writes one line per entry for people: time, level, message, fields as JSON.
func textEncoder() zapcore.Encoder {
	config := uberzap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.ISO8601TimeEncoder
	config.EncodeLevel = zapcore.CapitalLevelEncoder
	config.StacktraceKey = ""
	config.CallerKey = ""
	return zapcore.NewConsoleEncoder(config)
}
