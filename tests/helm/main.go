// Command render prints what Helm would install: render CHART NAMESPACE [VALUES], with VALUES as YAML or JSON.
//
// It is Helm's own engine and its own check of values against values.schema.json, without the rest of Helm.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

func render(folder, namespace, text string) error {
	chart, err := loader.Load(folder)
	if err != nil {
		return err
	}
	if err := chart.Validate(); err != nil {
		return err
	}
	values, err := chartutil.ReadValues([]byte(text))
	if err != nil {
		return err
	}
	release := chartutil.ReleaseOptions{Name: chart.Name(), Namespace: namespace, Revision: 1, IsInstall: true}
	capabilities := *chartutil.DefaultCapabilities
	capabilities.KubeVersion = chartutil.KubeVersion{Version: "v1.34.4", Major: "1", Minor: "34"}
	all, err := chartutil.ToRenderValues(chart, values, release, &capabilities)
	if err != nil {
		return err
	}
	strict := engine.Engine{Strict: true}
	files, err := strict.Render(chart, all)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if strings.HasSuffix(name, ".yaml") && strings.TrimSpace(files[name]) != "" {
			fmt.Printf("---\n%s\n", strings.TrimSpace(files[name]))
		}
	}
	return nil
}

func main() {
	text := ""
	switch len(os.Args) {
	case 3:
	case 4:
		text = os.Args[3]
	default:
		fmt.Fprintln(os.Stderr, "usage: render CHART NAMESPACE [VALUES]")
		os.Exit(2)
	}
	if err := render(os.Args[1], os.Args[2], text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
