package workload

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hansa-dev/hansa/e2e/node/workload/echo"
)

const echoHelp = `Answer over HTTP, TCP, UDP and gRPC with who and where the server is, and misbehave when told to.

HTTP and HTTPS (HTTP/1.1 and HTTP/2)
  ANY  /PATH      the answer, one line of JSON; the request's body is read, counted and dropped
  POST /echo      the request's body, as it arrives
  GET  /bytes?n=  n bytes
  GET  /live      200 while the process serves
  GET  /ready     200 while the server is ready, else 503
  GET  /control   what the server was told to do
  PUT  /control   tell it; absent fields get their usual values, so {} ends all faults (as does DELETE)
  PATCH /control  the same, absent fields stay as they are
  GET  /requests  the requests that had a name (X-Request-Id), and how often each came; DELETE forgets them

  /control takes {"fail": 503, "failRate": 0.2, "delay": "200ms", "hang": true, "drop": true, "ready": false,
  "protocols": ["http", "grpc"]}. fail is the HTTP status to answer with (gRPC: the code that corresponds; TCP: the
  connection is closed; UDP: no answer), hang is no answer, drop closes the connection without an answer. failRate is
  the share of requests that fail, hang or drop; usually all. protocols are those concerned, usually all.

  Every other request, except probes, may carry for itself: ?status=503 ?delay=100ms ?hang ?drop ?close ?plain ?size=N
  (plain: "CLUSTER/ZONE/POD VERSION"; close: close the connection afterwards; size: fill the answer to N bytes).

TCP   first a line that says who answers, then every line comes back; a line "?PARAMETERS", such as "?delay=1s&plain",
      is answered by who answers.
UDP   every datagram is answered by a line of JSON with its text as "echo"; it may begin with a line "?PARAMETERS".
gRPC  hansa.workload.v1.Echo/Echo and /Stream: google.protobuf.Struct with the parameters and "echo" as fields, answered
      by a google.protobuf.Struct; health (follows ready) and reflection.

On SIGTERM the server says that it is not ready, goes on serving for --drain, finishes what is under way for at most
--grace and exits 0.`

func echoCommand() *cobra.Command {
	var config echo.Config
	cmd := &cobra.Command{
		Use:   "echo",
		Short: "Test server for HTTP, TCP, UDP and gRPC",
		Long:  echoHelp,
		Args:  arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config.Log = slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil))
			config.Identity.Hostname, _ = os.Hostname() // better none than no server
			server, err := echo.Listen(config)
			if err != nil {
				return err
			}
			return server.Run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	identity := &config.Identity
	fromEnv(flags, &identity.Cluster, "cluster", "CLUSTER", "cluster to report")
	fromEnv(flags, &identity.Region, "region", "REGION", "region to report")
	fromEnv(flags, &identity.Zone, "zone", "ZONE", "zone to report")
	fromEnv(flags, &identity.Node, "node", "NODE_NAME", "node to report")
	fromEnv(flags, &identity.Namespace, "namespace", "POD_NAMESPACE", "namespace to report")
	fromEnv(flags, &identity.Pod, "pod", "POD_NAME", "pod to report")
	fromEnv(flags, &identity.IP, "ip", "POD_IP", "address to report")
	fromEnv(flags, &identity.Version, "app-version", "VERSION", "version to report")
	flags.StringVar(&config.HTTP, "http", ":8080", "address of HTTP; empty: not served")
	flags.StringVar(&config.TCP, "tcp", ":8081", "address of TCP; empty: not served")
	flags.StringVar(&config.UDP, "udp", ":8082", "address of UDP; empty: not served")
	flags.StringVar(&config.GRPC, "grpc", ":8083", "address of gRPC; empty: not served")
	flags.StringVar(&config.HTTPS, "https", "", "address of HTTPS; needs --tls-cert and --tls-key")
	flags.StringVar(&config.GRPCS, "grpcs", "", "address of encrypted gRPC; needs --tls-cert and --tls-key")
	flags.StringVar(&config.CertFile, "tls-cert", "", "file with the certificate, PEM")
	flags.StringVar(&config.KeyFile, "tls-key", "", "file with its key, PEM")
	flags.DurationVar(&config.Drain, "drain", 0, "how long to go on serving after SIGTERM")
	flags.DurationVar(&config.Grace, "grace", 5*time.Second, "how long requests may take to finish after that")
	flags.IntVar(&config.MaxWaiting, "max-waiting", 1000, "requests that may delay or hang at a time; others fail")
	return cmd
}

// fromEnv adds a flag whose default is an environment variable.
func fromEnv(flags *pflag.FlagSet, to *string, name, variable, usage string) {
	flags.StringVar(to, name, os.Getenv(variable), fmt.Sprintf("%s (default $%s)", usage, variable))
	flags.Lookup(name).DefValue = "" // help is the same everywhere
}
