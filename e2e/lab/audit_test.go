package lab_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/e2e/lab"
)

const (
	auditCreate = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"1","stage":"ResponseComplete",` +
		`"requestURI":"/api/v1/namespaces/web/configmaps?fieldManager=x","verb":"create","user":{"username":"jane","groups":["dev"]},` +
		`"sourceIPs":["127.0.0.1"],"userAgent":"hansa/v1","objectRef":{"resource":"configmaps","namespace":"web","apiVersion":"v1"},` +
		`"responseStatus":{"metadata":{},"code":201},"requestReceivedTimestamp":"2026-01-02T03:04:05.678901Z",` +
		`"stageTimestamp":"2026-01-02T03:04:05.7Z","annotations":{}}` + "\n"
	auditPatch = `{"kind":"Event","stage":"ResponseComplete","requestURI":"/apis/apps/v1/namespaces/web/deployments/d/status?dryRun=All",` +
		`"verb":"patch","user":{"username":"joe"},"userAgent":"kubectl","objectRef":{"resource":"deployments","namespace":"web","name":"d",` +
		`"apiGroup":"apps","apiVersion":"v1","subresource":"status"},"responseStatus":{"code":200},"requestReceivedTimestamp":"2026-01-02T03:04:06Z"}` + "\n"
	auditStarted = `{"kind":"Event","stage":"ResponseStarted","verb":"create","user":{"username":"jane"},"userAgent":"x"}` + "\n"
)

func TestParseAudit(t *testing.T) {
	created := lab.AuditEvent{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC), Verb: "create", User: "jane", UserAgent: "hansa/v1",
		Resource: "configmaps", Namespace: "web", Code: 201,
	}
	patched := lab.AuditEvent{
		Time: time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC), Verb: "patch", User: "joe", UserAgent: "kubectl", Group: "apps",
		Resource: "deployments", Subresource: "status", Namespace: "web", Name: "d", DryRun: true, Code: 200,
	}
	tests := map[string]struct {
		reason string
		log    string
		want   []lab.AuditEvent
		read   int // bytes
		fails  bool
	}{
		"Empty": {reason: "nothing was written yet"},
		"Two": {
			reason: "events come in the order of the log",
			log:    auditCreate + auditPatch,
			want:   []lab.AuditEvent{created, patched},
			read:   len(auditCreate + auditPatch),
		},
		"HalfLine": {
			reason: "a line that is still being written is read the next time",
			log:    auditCreate + auditPatch[:100],
			want:   []lab.AuditEvent{created},
			read:   len(auditCreate),
		},
		"Started": {
			reason: "a request counts once, when it is answered",
			log:    auditStarted + auditCreate,
			want:   []lab.AuditEvent{created},
			read:   len(auditStarted + auditCreate),
		},
		"Torn": {
			reason: "an API server that is killed leaves half a line, which the next one goes on with",
			log:    auditPatch[:100] + auditCreate,
			want:   []lab.AuditEvent{created},
			read:   len(auditPatch[:100] + auditCreate),
		},
		"Broken": {
			reason: "what is not an event is an error, and is not skipped",
			log:    auditCreate + "oops\n",
			want:   []lab.AuditEvent{created},
			read:   len(auditCreate),
			fails:  true,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, read, err := lab.ParseAudit(strings.NewReader(tc.log))
			if (err != nil) != tc.fails {
				t.Fatalf("%s: ParseAudit: error %v, want one: %t", tc.reason, err, tc.fails)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s: ParseAudit: -want +got:\n%s", tc.reason, diff)
			}
			if read != int64(tc.read) {
				t.Errorf("%s: ParseAudit read %d bytes, want %d", tc.reason, read, tc.read)
			}
		})
	}
}

func TestAuditEventSucceeded(t *testing.T) {
	tests := map[string]struct {
		reason string
		event  lab.AuditEvent
		want   bool
	}{
		"Created":  {reason: "201 is a success", event: lab.AuditEvent{Code: 201}, want: true},
		"Conflict": {reason: "a conflict changed nothing", event: lab.AuditEvent{Code: 409}},
		"DryRun":   {reason: "a dry run changed nothing", event: lab.AuditEvent{Code: 200, DryRun: true}},
		"Panic":    {reason: "the server gave no answer", event: lab.AuditEvent{}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tc.event.Succeeded(); got != tc.want {
				t.Errorf("%s: Succeeded() = %t, want %t", tc.reason, got, tc.want)
			}
		})
	}
}

func TestMarkOfALogThatIsBeingWritten(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	tests := map[string]struct {
		reason string
		log    string
		want   int
	}{
		"Empty":    {"an empty log is at its start", "", 0},
		"Whole":    {"a log of whole lines is at its end", "one\ntwo\n", 8},
		"Partial":  {"a line that is being written is yet to be read", "one\ntw", 4},
		"First":    {"also if it is the first", "on", 0},
		"Long":     {"and however long it is", "one\n" + long, 4},
		"LongLine": {"lines may be longer than what is read at a time", long + "\ntw", len(long) + 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := lab.LastLine(strings.NewReader(tt.log))
			if err != nil || int(got) != tt.want {
				t.Errorf("%s: got %d, %v; want %d", tt.reason, got, err, tt.want)
			}
		})
	}
}
