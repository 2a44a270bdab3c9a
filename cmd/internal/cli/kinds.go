package cli

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/hansa-dev/hansa/federation/typeconfig"
)

// kindList is what a cluster serves, sorted by group and name (discovery's order varies), with group and version filled
// in and without subresources.
type kindList []metav1.APIResource

// errUnknownType marks a name that no kind of the cluster answers to.
var errUnknownType = errors.New("unknown type")

// newKindList flattens discovery's lists; with a version only the kinds of that version.
func newKindList(lists []*metav1.APIResourceList, version string) kindList {
	var kinds kindList
	for _, list := range lists {
		parsed, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil || (version != "" && parsed.Version != version) {
			continue
		}
		for _, resource := range list.APIResources {
			if strings.Contains(resource.Name, "/") {
				continue
			}
			resource.Group, resource.Version = parsed.Group, parsed.Version
			kinds = append(kinds, resource)
		}
	}
	slices.SortStableFunc(kinds, func(a, b metav1.APIResource) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Name, b.Name))
	})
	return kinds
}

// find returns the kind that a person means by name: a plural, singular, kind or short name, each alone or with the
// group behind a dot. The core group wins over others, as otherwise there would be no way to name its kinds; a name
// that fits several other groups is an error which lists them.
func (k kindList) find(name string) (metav1.APIResource, error) {
	var found []metav1.APIResource
	for _, resource := range k {
		if !answersTo(resource, name) {
			continue
		}
		if resource.Group == "" {
			return resource, nil
		}
		if !slices.ContainsFunc(found, func(have metav1.APIResource) bool { return have.Group == resource.Group && have.Name == resource.Name }) {
			found = append(found, resource)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return metav1.APIResource{}, fmt.Errorf("%w %q%s", errUnknownType, name, k.suggest(name))
	}
	var names []string
	for _, resource := range found {
		names = append(names, qualified(resource))
	}
	return metav1.APIResource{}, fmt.Errorf("%q may be any of %s: give the name with its group", name, strings.Join(names, ", "))
}

// answersTo tells whether name means a resource. Names are compared without case.
func answersTo(resource metav1.APIResource, name string) bool {
	name = strings.ToLower(name)
	for _, own := range ownNames(resource) {
		if name == own || (resource.Group != "" && name == own+"."+resource.Group) {
			return true
		}
	}
	return resource.Group == "" && (name == resource.Name+".core" || name == resource.Name+".")
}

func ownNames(resource metav1.APIResource) []string {
	names := []string{resource.Name, strings.ToLower(resource.Kind)}
	if resource.SingularName != "" {
		names = append(names, resource.SingularName)
	}
	for _, short := range resource.ShortNames {
		names = append(names, strings.ToLower(short))
	}
	return names
}

func qualified(resource metav1.APIResource) string {
	return typeconfig.QualifiedName(resource.Name, resource.Group)
}

// suggest lists what a person may have meant: names at most two edits away, or that contain the one given.
func (k kindList) suggest(name string) string {
	name = strings.ToLower(name)
	bare, _, _ := strings.Cut(name, ".")
	var near []string
	for _, resource := range k {
		for _, own := range ownNames(resource) {
			if distance(own, bare) <= min(2, len(bare)/3) || (len(bare) > 3 && strings.Contains(own, bare)) {
				near = append(near, qualified(resource))
				break
			}
		}
	}
	slices.Sort(near)
	near = slices.Compact(near)
	if len(near) == 0 {
		return ". See: kubectl api-resources"
	}
	return ". Did you mean " + strings.Join(near[:min(5, len(near))], " or ") + "?"
}

// distance is the number of letters to insert, delete or change to get from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
