package identity_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/eastwest/identity"
)

const namespace = "kube-federation-system"

func newHost(t *testing.T, objects ...client.Object) client.WithWatch {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), corev1b1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
}

func secret(name string, cert, key []byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": cert, "tls.key": key},
	}
}

func member(name, uid string) *corev1b1.KubeFedCluster {
	return &corev1b1.KubeFedCluster{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(uid)}}
}

func newKeeper(host client.Client, c *clock) *identity.Keeper {
	return identity.NewKeeper(identity.KeeperOptions{
		Client: host, Namespace: namespace, Log: logr.Discard(), Now: c.Now,
		ClusterID: func(name string) (string, bool) { return strings.ReplaceAll(name, ".", "-"), true },
	})
}

func keep(t *testing.T, k *identity.Keeper) {
	t.Helper()
	if problems := k.Keep(t.Context()); len(problems) > 0 {
		t.Fatal(problems)
	}
}

func read(t *testing.T, host client.Client, name string) *corev1.Secret {
	t.Helper()
	live := &corev1.Secret{}
	if err := host.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, live); err != nil {
		t.Fatal(err)
	}
	return live
}

func certificate(t *testing.T, s *corev1.Secret) *x509svid.SVID {
	t.Helper()
	svid, err := x509svid.Parse(s.Data["tls.crt"], s.Data["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	return svid
}

func TestKeep(t *testing.T) {
	c := newClock()
	host := newHost(t, member("m1", "u1"), member("m2.example", "u2"))
	keeper := newKeeper(host, c)
	keep(t, keeper)
	authority := readAuthority(t, host, c)
	for name, want := range map[string]struct {
		id   string
		life time.Duration
	}{
		"hansa-xds-client-m1":         {"spiffe://clusterset.local/cluster/m1/client", identity.Lifetime},
		"hansa-xds-client-m2.example": {"spiffe://clusterset.local/cluster/m2-example/client", identity.Lifetime},
		"hansa-xds-admin":             {"spiffe://clusterset.local/admin", identity.AdminLifetime},
	} {
		live := read(t, host, name)
		svid := certificate(t, live)
		if svid.ID.String() != want.id || live.Type != corev1.SecretTypeTLS || !bytes.Equal(live.Data["ca.crt"], authority.BundlePEM()) {
			t.Errorf("%s is for %s, type %s", name, svid.ID, live.Type)
		}
		if got := svid.Certificates[0].NotAfter.Sub(c.Now()); got != want.life {
			t.Errorf("%s is good for %s", name, got)
		}
		if _, _, err := x509svid.Verify(svid.Certificates, authority.Bundle()); err != nil {
			t.Error(err)
		}
	}
	owners := read(t, host, "hansa-xds-client-m1").OwnerReferences
	if len(owners) != 1 || owners[0].UID != "u1" || owners[0].Kind != "KubeFedCluster" || owners[0].APIVersion != "core.kubefed.io/v1beta1" {
		t.Errorf("owners: %v", owners)
	}

	before := read(t, host, "hansa-xds-client-m1").ResourceVersion
	keep(t, keeper)
	keep(t, newKeeper(host, c)) // the next leader
	if after := read(t, host, "hansa-xds-client-m1").ResourceVersion; after != before {
		t.Error("written again without need")
	}
	if got := readAuthority(t, host, c); !got.Certificate().Equal(authority.Certificate()) {
		t.Error("the next leader made another authority")
	}
}

func TestKeepRenews(t *testing.T) {
	const name = "hansa-xds-client-m1"
	for title, tc := range map[string]struct {
		reason string
		change func(t *testing.T, host client.Client, c *clock)
		same   bool
	}{
		"Young":   {reason: "Less than a third of 30 days.", change: func(_ *testing.T, _ client.Client, c *clock) { c.Add(9 * 24 * time.Hour) }, same: true},
		"Third":   {reason: "A third of 30 days.", change: func(_ *testing.T, _ client.Client, c *clock) { c.Add(10 * 24 * time.Hour) }},
		"Asleep":  {reason: "It ended while no hub ran.", change: func(_ *testing.T, _ client.Client, c *clock) { c.Add(60 * 24 * time.Hour) }},
		"Damaged": {reason: "It is ours: we mend it.", change: func(t *testing.T, host client.Client, _ *clock) { setData(t, host, name, "tls.key", []byte("x")) }},
		"Emptied": {reason: "It is ours: we mend it.", change: func(t *testing.T, host client.Client, _ *clock) { setData(t, host, name, "", nil) }},
		"Roots":   {reason: "Clients need all roots.", change: func(t *testing.T, host client.Client, _ *clock) { setData(t, host, name, "ca.crt", nil) }},
		"Deleted": {reason: "It is made again.", change: func(t *testing.T, host client.Client, _ *clock) {
			if err := host.Delete(t.Context(), read(t, host, name)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(title, func(t *testing.T) {
			c := newClock()
			host := newHost(t, member("m1", "u1"))
			keeper := newKeeper(host, c)
			keep(t, keeper)
			before := certificate(t, read(t, host, name)).Certificates[0]
			tc.change(t, host, c)
			keep(t, keeper)
			live := read(t, host, name)
			after := certificate(t, live).Certificates[0]
			if after.Equal(before) != tc.same {
				t.Errorf("%s\nthe same: %t, want %t", tc.reason, after.Equal(before), tc.same)
			}
			if !bytes.Equal(live.Data["ca.crt"], readAuthority(t, host, c).BundlePEM()) {
				t.Error("the roots are not those of the authority")
			}
		})
	}
}

func setData(t *testing.T, host client.Client, name, key string, value []byte) {
	t.Helper()
	live := read(t, host, name)
	if key == "" {
		live.Data = nil
	} else {
		live.Data[key] = value
	}
	if err := host.Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
}

func TestKeepFollowsClusters(t *testing.T) {
	c := newClock()
	host := newHost(t, member("m1", "u1"), member("m2", "u2"))
	ids := map[string]string{"m1": "one"}
	keeper := identity.NewKeeper(identity.KeeperOptions{
		Client: host, Namespace: namespace, Log: logr.Discard(), Now: c.Now,
		ClusterID: func(name string) (string, bool) { id, ok := ids[name]; return id, ok },
	})
	keep(t, keeper)
	if err := host.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "hansa-xds-client-m2"}, &corev1.Secret{}); !apierrors.IsNotFound(err) {
		t.Error("a cluster has a certificate before its id is known: ", err)
	}
	ids["m2"] = "two"
	ids["m1"] = "uno"
	keep(t, keeper)
	if got := certificate(t, read(t, host, "hansa-xds-client-m1")).ID.Path(); got != "/cluster/uno/client" {
		t.Errorf("after the id changed: %s", got)
	}
	if got := certificate(t, read(t, host, "hansa-xds-client-m2")).ID.Path(); got != "/cluster/two/client" {
		t.Errorf("once the id is known: %s", got)
	}

	// m1 leaves and comes back as another; m2 leaves.
	if err := errors.Join(host.Delete(t.Context(), member("m1", "u1")), host.Delete(t.Context(), member("m2", "u2")), host.Create(t.Context(), member("m1", "u9"))); err != nil {
		t.Fatal(err)
	}
	keep(t, keeper)
	if owners := read(t, host, "hansa-xds-client-m1").OwnerReferences; len(owners) != 1 || owners[0].UID != "u9" {
		t.Errorf("owners after the cluster has come back: %v", owners)
	}
	if err := host.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "hansa-xds-client-m2"}, &corev1.Secret{}); !apierrors.IsNotFound(err) {
		t.Error("the certificate of a cluster that has left is still there: ", err)
	}
}

// TestKeepLeavesOthersAlone puts Secrets of somebody else where the Keeper would write.
// TestKeepFollowsIDs: a certificate speaks for an id, so it goes when another cluster has the id.
func TestKeepFollowsIDs(t *testing.T) {
	c := newClock()
	host := newHost(t, member("m1", "u1"), member("m2", "u2"))
	ids := map[string]string{"m1": "east", "m2": "west"}
	keeper := identity.NewKeeper(identity.KeeperOptions{
		Client: host, Namespace: namespace, Log: logr.Discard(), Now: c.Now,
		ClusterID: func(name string) (string, bool) {
			id, known := ids[name]
			return id, known
		},
	})
	keep(t, keeper)
	delete(ids, "m1")
	keep(t, keeper)
	read(t, host, "hansa-xds-client-m1") // nobody else has the id: what is not known for a moment is no reason
	ids["m2"] = "east"
	keep(t, keeper)
	if got := certificate(t, read(t, host, "hansa-xds-client-m2")).ID.String(); got != "spiffe://clusterset.local/cluster/east/client" {
		t.Errorf("the new holder has a certificate for %s", got)
	}
	if err := host.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "hansa-xds-client-m1"}, &corev1.Secret{}); !apierrors.IsNotFound(err) {
		t.Errorf("the former holder's certificate is still there: %v", err)
	}
}

func TestKeepLeavesOthersAlone(t *testing.T) {
	c := newClock()
	theirs := []client.Object{
		secret("hansa-xds-client-m1", []byte("theirs"), nil), secret("hansa-xds-admin", []byte("theirs"), nil), secret("hansa-xds-client-gone", []byte("theirs"), nil),
	}
	host := newHost(t, append(theirs, member("m1", "u1"), member("m2", "u2"))...)
	problems := newKeeper(host, c).Keep(t.Context())
	for _, subject := range []string{"admins", "cluster m1"} {
		if err := problems[subject]; err == nil || !strings.Contains(err.Error(), "left alone") {
			t.Errorf("%s: %v", subject, err)
		}
		delete(problems, subject)
	}
	if len(problems) > 0 {
		t.Error(problems)
	}
	for _, object := range theirs {
		if live := read(t, host, object.GetName()); string(live.Data["tls.crt"]) != "theirs" || len(live.Labels) > 0 {
			t.Errorf("%s was touched", object.GetName())
		}
	}
	certificate(t, read(t, host, "hansa-xds-client-m2"))
}

func TestKeepAuthority(t *testing.T) {
	c := newClock()
	good, key := authorityPEM(t, c, func(*x509.Certificate) {})
	t.Run("Damaged", func(t *testing.T) {
		host := newHost(t, secret(identity.AuthoritySecret, good, []byte("x")))
		err := newKeeper(host, c).Keep(t.Context())["the authority"]
		if err == nil || !strings.Contains(err.Error(), namespace+"/hansa-ca") || !strings.Contains(err.Error(), "Put back") {
			t.Errorf("the error names the Secret and what to do: %v", err)
		}
		if got := read(t, host, identity.AuthoritySecret); string(got.Data["tls.key"]) != "x" {
			t.Error("it was overwritten")
		}
	})
	t.Run("Own", func(t *testing.T) {
		host := newHost(t, secret(identity.AuthoritySecret, good, key))
		keep(t, newKeeper(host, c))
		if got := read(t, host, identity.AuthoritySecret); !bytes.Equal(got.Data["tls.crt"], good) || len(got.Labels) > 0 {
			t.Error("an authority that somebody brought was changed")
		}
	})
	t.Run("Deleted", func(t *testing.T) {
		host, authority := stored(t, c)
		keeper := newKeeper(host, c)
		keep(t, keeper)
		if err := host.Delete(t.Context(), read(t, host, identity.AuthoritySecret)); err != nil {
			t.Fatal(err)
		}
		keep(t, keeper)
		if got := readAuthority(t, host, c); !got.Certificate().Equal(authority.Certificate()) {
			t.Error("deleted by mistake, it came back as another, and all clients are cut off")
		}
	})
	t.Run("Replaced", func(t *testing.T) {
		host, _ := stored(t, c)
		keeper := newKeeper(host, c)
		keep(t, keeper)
		live := read(t, host, identity.AuthoritySecret)
		live.Data = map[string][]byte{"tls.crt": good, "tls.key": key}
		if err := host.Update(t.Context(), live); err != nil {
			t.Fatal(err)
		}
		keep(t, keeper)
		svid := certificate(t, read(t, host, identity.AdminSecret))
		if _, _, err := x509svid.Verify(svid.Certificates, readAuthority(t, host, c).Bundle()); err != nil {
			t.Error("the certificates are still those of the old authority: ", err)
		}
	})
}

// TestTwoLeaders lets two hubs find no authority at the same moment.
func TestTwoLeaders(t *testing.T) {
	c := newClock()
	var both sync.WaitGroup
	both.Add(2)
	var once [2]sync.Once
	host := newHost(t)
	var done sync.WaitGroup
	for i := range 2 {
		slow := interceptor.NewClient(host, interceptor.Funcs{
			Create: func(ctx context.Context, inner client.WithWatch, object client.Object, opts ...client.CreateOption) error {
				once[i].Do(func() { both.Done(); both.Wait() }) // both have seen that there is none
				return inner.Create(ctx, object, opts...)
			},
		})
		done.Go(func() { newKeeper(slow, c).Keep(t.Context()) })
	}
	done.Wait()
	authority := readAuthority(t, host, c)
	keep(t, newKeeper(host, c))
	svid := certificate(t, read(t, host, identity.AdminSecret))
	if _, _, err := x509svid.Verify(svid.Certificates, authority.Bundle()); err != nil {
		t.Error("the loser signed with an authority of its own: ", err)
	}
}

// TestStart runs the Keeper as the hub does, and reads its log.
func TestStart(t *testing.T) {
	c := newClock()
	var mu sync.Mutex
	var lines []string
	log := funcr.New(func(_, args string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, args)
	}, funcr.Options{Verbosity: 9})
	host := newHost(t, secret(identity.AdminSecret, nil, nil), member("m1", "u1"))
	wake := make(chan struct{})
	keeper := identity.NewKeeper(identity.KeeperOptions{
		Client: host, Namespace: namespace, Log: log, Now: c.Now, Wake: wake, Period: time.Hour,
		ClusterID: func(name string) (string, bool) { return name, true },
	})
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- keeper.Start(ctx) }()
	for range 3 {
		wake <- struct{}{} // received after a look is done
	}
	cancel()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	all := strings.Join(lines, "\n")
	if got := strings.Count(all, "left alone"); got != 1 {
		t.Errorf("the same trouble was told %d times:\n%s", got, all)
	}
	for name, data := range map[string]map[string][]byte{
		"hansa-ca": read(t, host, "hansa-ca").Data, "m1": read(t, host, "hansa-xds-client-m1").Data,
	} {
		key := strings.Split(string(data["tls.key"]), "\n")[1]
		if strings.Contains(all, key) {
			t.Errorf("the log has the key of %s", name)
		}
	}
	if !maps.Equal(read(t, host, "hansa-ca").Labels, map[string]string{"hansa.dev/identity": "authority", "app.kubernetes.io/managed-by": "hansa.dev"}) {
		t.Error("labels of the authority")
	}
}
