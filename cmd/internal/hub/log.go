package hub

import (
	"github.com/go-logr/logr"
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

// quietEnd returns a log for controller-runtime's manager, which calls it an error when a hub that was told to stop gives its
// lease back.
func quietEnd(log logr.Logger, stopping <-chan struct{}) logr.Logger {
	return log.WithSink(quietSink{log.GetSink(), stopping})
}

type quietSink struct {
	logr.LogSink

	stopping <-chan struct{} // closed when the hub was told to stop
}

// Error implements logr.LogSink.
func (s quietSink) Error(err error, message string, keysAndValues ...any) {
	if err != nil && err.Error() == leaderElectionLost {
		select {
		case <-s.stopping:
			s.Info(0, "Gave the lease back", keysAndValues...)
			return
		default:
		}
	}
	s.LogSink.Error(err, message, keysAndValues...)
}

// WithName implements logr.LogSink.
func (s quietSink) WithName(name string) logr.LogSink {
	return quietSink{s.LogSink.WithName(name), s.stopping}
}

// WithValues implements logr.LogSink.
func (s quietSink) WithValues(keysAndValues ...any) logr.LogSink {
	return quietSink{s.LogSink.WithValues(keysAndValues...), s.stopping}
}
