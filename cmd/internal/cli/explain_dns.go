package cli

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	miekg "github.com/miekg/dns"
	"github.com/spf13/cobra"

	"github.com/hansa-dev/hansa/cmd/internal/dns"
	"github.com/hansa-dev/hansa/dns/zone"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// explainDNSFlags are the flags of explain dns.
type explainDNSFlags struct {
	from, zone, region, rrtype, output string

	zones dns.Zones
}

func (p *program) newExplainDNS() *cobra.Command {
	var f explainDNSFlags
	cmd := &cobra.Command{
		Use:     "dns (NAME | NAMESPACE/SERVICE)",
		Aliases: []string{"name"},
		Short:   "Say what DNS answers for a name, and why",
		Long: long(`
			Says what the DNS servers of Hansa answer for a name, and why: which records, of which service, and of every
			cluster which endpoints are behind them and which are not. NAMESPACE/SERVICE means the name of a global service.

			It is computed from what the hub has recorded in the host cluster, with the code that DNS servers answer with. They
			answer for the cluster that somebody asks from: --from. Without it, somebody outside of all clusters is meant; they
			get addresses in external zones only, which have to be given as the servers have them: --dns-external-zone.`),
		Example: p.examples(`
			# What do clients in cluster m1 get?
			{} explain dns cart.shop.svc.clusterset.local --from m1
			{} explain dns shop/cart --type SRV --from m1

			# And those elsewhere, in a region?
			{} explain dns cart.shop.global.example.org --dns-external-zone global.example.org --region eu`),
		Args:              exactly("the name"),
		ValidArgsFunction: p.completeName,
		RunE: func(cmd *cobra.Command, args []string) error {
			rrtype, ok := miekg.StringToType[strings.ToUpper(f.rrtype)]
			switch {
			case !ok || rrtype == miekg.TypeANY || rrtype == miekg.TypeAXFR || rrtype == miekg.TypeIXFR:
				return usage(cmd, "--type %q: want a type of records, as A, AAAA or SRV", f.rrtype)
			case !slices.Contains([]string{"", "json", "yaml"}, f.output):
				return usage(cmd, "unknown output format %q: json or yaml", f.output)
			case f.from == "" && f.zone != "":
				return usage(cmd, "--zone needs --from: zones are those of a cluster")
			case f.from != "" && f.region != "":
				return usage(cmd, "--region is for those outside of all clusters: a cluster says itself where it is")
			}
			if err := checkZone(cmd, f.zone); err != nil {
				return err
			}
			return p.explainDNS(cmd.Context(), args[0], rrtype, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.from, "from", "", "The cluster of who asks, by its id or its name (default: outside of all clusters)")
	flags.StringVar(&f.zone, "zone", "", "The zone of who asks, as the labels of nodes say it")
	flags.StringVar(&f.region, "region", "", "The region of who asks, outside of all clusters")
	flags.StringVar(&f.rrtype, "type", "A", "The type of records that is asked for")
	addOutput(cmd, &f.output, "json", "yaml")
	f.zones.Add(flags, "dns-")
	must(cmd.RegisterFlagCompletionFunc("from", p.completeIDs))
	must(cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions([]string{"A", "AAAA", "SRV", "TXT", "NS", "SOA", "CNAME"}, cobra.ShellCompDirectiveNoFileComp)))
	for _, free := range []string{
		"zone", "region", "dns-zone", "dns-nameserver", "dns-ttl", "dns-external-zone", "dns-kubefed-zone", "dns-per-cluster-zone",
	} {
		must(cmd.RegisterFlagCompletionFunc(free, cobra.NoFileCompletions))
	}
	return cmd
}

// completeName completes with the names of services, in the zone of global names.
func (p *program) completeName(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	domain, err := cmd.Flags().GetString("dns-zone")
	if err != nil {
		domain = zone.DefaultClusterSet
	}
	return p.completeTable(cmd, func(t *serviceTable) []string {
		var names []string
		for _, service := range t.snapshot.Services() {
			names = append(names, strings.TrimSuffix(globalName(service.Key, domain), "."))
		}
		return names
	})
}

func globalName(key clusterset.Key, domain string) string {
	return key.Name + "." + key.Namespace + ".svc." + strings.TrimSuffix(domain, ".") + "."
}

// dnsExplanation is what -o json shows.
type dnsExplanation struct {
	Name    string      `json:"name"`
	Type    string      `json:"type"`
	From    string      `json:"from,omitempty"` // empty: outside of all clusters
	Zone    string      `json:"zone,omitempty"`
	Region  string      `json:"region,omitempty"`
	Rcode   string      `json:"rcode"`
	Records []dnsRecord `json:"records"`
	Why     []whyLine   `json:"why"`
	Hub     hubState    `json:"hub"`
}

type dnsRecord struct {
	Name   string  `json:"name"`
	Type   string  `json:"type"`
	TTL    uint32  `json:"ttl"`
	Data   string  `json:"data"`
	Weight *uint64 `json:"weight,omitempty"` // one is answered at a time, drawn by it
}

// whyLine explains; what is deeper explains what is above.
type whyLine struct {
	Depth int    `json:"depth"`
	Text  string `json:"text"`
}

func (p *program) explainDNS(ctx context.Context, name string, rrtype uint16, f explainDNSFlags) error {
	options, err := f.zones.Options()
	if err != nil {
		return err
	}
	if namespace, service, ok := strings.Cut(name, "/"); ok {
		name = globalName(clusterset.Key{Namespace: namespace, Name: service}, options.ClusterSet)
	}
	wire, err := zone.Wire(name)
	if err != nil {
		return fmt.Errorf("%q is no name: %w", name, err)
	}
	t, err := p.openTable(ctx)
	if err != nil {
		return err
	}
	asker := zone.Asker{Zone: f.zone, Region: f.region}
	if f.from != "" {
		if asker.Cluster, err = t.cluster(f.from); err != nil {
			return err
		}
		p.warnZone(asker.Cluster, f.zone, t.zones[asker.Cluster])
	}
	e := newDNSExplanation(zone.Next(nil, t.snapshot, asker, options), wire, rrtype)
	e.From, e.Zone, e.Region, e.Hub = asker.Cluster, asker.Zone, asker.Region, t.hub
	if f.output != "" {
		return writeValue(p.streams.Out, f.output, e)
	}
	p.say("Asked from %s:", e.asker())
	for _, line := range e.Why {
		p.say("%s%s", strings.Repeat("  ", line.Depth), line.Text)
	}
	return nil
}

// serial is what a line says of serial numbers: they follow from the numbers of the hub's snapshots, which are not known here.
var serial = regexp.MustCompile(`, serial \d+$`)

// inSOA is where the data of an SOA has it.
var inSOA = regexp.MustCompile(`^((?:.* SOA )?\S+ \S+) \d+ `)

// noSerial stands in its place.
const noSerial = "$1 SERIAL "

func newDNSExplanation(tree *zone.Tree, wire []byte, rrtype uint16) *dnsExplanation {
	name := zone.Presentation(wire)
	e := &dnsExplanation{Name: name, Type: miekg.Type(rrtype).String(), Rcode: "NOERROR", Records: []dnsRecord{}}
	match := tree.FindType(wire, rrtype)
	switch match.Kind {
	case zone.Outside:
		e.Rcode = "REFUSED"
	case zone.Missing:
		e.Rcode = "NXDOMAIN"
	default:
		e.add(match.Node.RRset(miekg.TypeCNAME), name)
		if rrtype != miekg.TypeCNAME {
			e.add(match.Node.RRset(rrtype), name)
		}
	}
	for _, line := range tree.Explain(name, rrtype) {
		text := serial.ReplaceAllString(line.Text, "")
		if rrtype == miekg.TypeSOA && line.Depth > 0 {
			text = inSOA.ReplaceAllString(text, noSerial)
		}
		e.Why = append(e.Why, whyLine{line.Depth, text})
	}
	if rrtype == miekg.TypeSOA && len(e.Records) > 0 {
		e.Why = append(e.Why, whyLine{0, "the serial number is the number of a snapshot in a server, divided by 2^22: ask one (dig " + name + " SOA)"})
	}
	return e
}

func (e *dnsExplanation) add(set *zone.RRset, owner string) {
	if set == nil {
		return
	}
	for i, rr := range set.RRs(owner) {
		header := rr.Header()
		record := dnsRecord{
			Name: header.Name, Type: miekg.Type(header.Rrtype).String(), TTL: header.Ttl, Data: strings.TrimPrefix(rr.String(), header.String()),
		}
		if header.Rrtype == miekg.TypeSOA {
			record.Data = inSOA.ReplaceAllString(record.Data, noSerial)
		}
		if set.Weighted() {
			record.Weight = new(set.Weight(i))
		}
		e.Records = append(e.Records, record)
	}
}

// asker names who asks.
func (e *dnsExplanation) asker() string {
	place := "outside of all clusters"
	if e.From != "" {
		place = "cluster " + e.From
	}
	if e.Zone != "" {
		place += ", zone " + e.Zone
	}
	if e.Region != "" {
		place += ", in the region " + e.Region
	}
	return place
}
