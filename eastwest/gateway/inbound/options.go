package inbound

import (
	"cmp"
	"errors"
	"time"

	"github.com/go-logr/logr"

	"github.com/hansa-dev/hansa/eastwest/gateway/connect"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Snapshots is where the service table comes from.
type Snapshots interface {
	Current() (*clusterset.Snapshot, <-chan struct{})
}

// Options say what a Handler serves, and bound what others can make it do. A zero field has the default beside it.
type Options struct {
	Snapshots Snapshots // required
	Cluster   string    // the own one: required

	Connect connect.Options // how pods are found; a pod has 1 s, all have 5 s

	Streams        int           // at a time: 16384
	PerCluster     int           // of one other cluster: 8192
	IdleTimeout    time.Duration // in which nothing moves: 1 h
	SessionTimeout time.Duration // likewise, for datagrams: 90 s
	ProbeTimeout   time.Duration // for a probe: 10 s

	Log logr.Logger // zero: none; streams are logged at level 1
}

// orDefault fills in what is zero.
func (o Options) orDefault() Options {
	o.Connect.AttemptTimeout = cmp.Or(o.Connect.AttemptTimeout, time.Second)
	o.Connect.ConnectTimeout = cmp.Or(o.Connect.ConnectTimeout, 5*time.Second)
	o.Connect.Log = o.Log
	o.Connect = o.Connect.OrDefault()
	o.Streams = cmp.Or(o.Streams, 16384)
	o.PerCluster = cmp.Or(o.PerCluster, 8192)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, time.Hour)
	o.SessionTimeout = cmp.Or(o.SessionTimeout, 90*time.Second)
	o.ProbeTimeout = cmp.Or(o.ProbeTimeout, 10*time.Second)
	return o
}

// check says what is missing.
func (o Options) check() error {
	if o.Snapshots == nil || o.Cluster == "" {
		return errors.New("an inbound gateway needs a service table and its own cluster: set Snapshots and Cluster")
	}
	return nil
}
