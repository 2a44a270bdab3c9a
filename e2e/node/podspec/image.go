package podspec

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/e2e/node/config"
)

// ProgramDir is where containers find the programs of the image table.
const ProgramDir = "/lab"

// ImageName is what of an image's name the table is asked for: its last element without tag and digest.
func ImageName(image string) string {
	image, _, _ = strings.Cut(image, "@")
	image = path.Base(image)
	image, _, _ = strings.Cut(image, ":")
	return image
}

// FindImage returns the first entry of the table for an image.
func FindImage(table []config.Image, image string) (config.Image, bool) {
	name := ImageName(image)
	i := slices.IndexFunc(table, func(entry config.Image) bool {
		matched, err := path.Match(entry.Name, name)
		return err == nil && matched
	})
	if i < 0 {
		return config.Image{}, false
	}
	return table[i], true
}

// Programs are the files that containers find in ProgramDir, by their names there. Programs of the system are not among
// them, for containers see the system's directories.
func Programs(table []config.Image) map[string]string {
	programs := map[string]string{}
	for _, entry := range table {
		if file := entry.Command[0]; !ofSystem(file) {
			programs[filepath.Base(file)] = file
		}
	}
	return programs
}

func ofSystem(file string) bool {
	for _, dir := range []string{"/usr/", "/bin/", "/sbin/", "/lib/", "/lib64/"} {
		if strings.HasPrefix(file, dir) {
			return true
		}
	}
	return false
}

// Command is what a container runs: its command or that of the image, and its arguments. Container runtimes append
// arguments to the image's entry point in the same way.
func Command(c *corev1.Container, image config.Image, v *Variables) []string {
	var command []string
	if len(c.Command) > 0 {
		command = expandAll(c.Command, v)
	} else {
		command = slices.Clone(image.Command)
		if !ofSystem(command[0]) {
			command[0] = path.Join(ProgramDir, filepath.Base(command[0]))
		}
	}
	return append(command, expandAll(c.Args, v)...)
}

func expandAll(texts []string, v *Variables) []string {
	var out []string
	for _, text := range texts {
		out = append(out, Expand(text, v.Lookup))
	}
	return out
}
