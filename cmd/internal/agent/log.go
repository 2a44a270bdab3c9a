package agent

import (
	"github.com/go-logr/logr"
	uberzap "go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// newLog returns a log in the forms that the hub's has.
func newLog(format string, verbosity int, streams genericiooptions.IOStreams) logr.Logger {
	return zap.New(zap.WriteTo(streams.ErrOut), zap.UseDevMode(false), func(z *zap.Options) {
		z.Level = uberzap.NewAtomicLevelAt(zapcore.Level(-min(max(verbosity, 0), 9)))
		if format == "text" {
			config := uberzap.NewProductionEncoderConfig()
			config.EncodeTime = zapcore.ISO8601TimeEncoder
			config.EncodeLevel = zapcore.CapitalLevelEncoder
			config.StacktraceKey = ""
			config.CallerKey = ""
			z.Encoder = zapcore.NewConsoleEncoder(config)
		}
	})
}
