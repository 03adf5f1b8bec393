package packagingtest

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// actionlint is run by its version, since its dependencies disagree with those
// of this module.
const actionlint = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"

func TestWorkflows(t *testing.T) {
	out, err := exec.Command("go", append([]string{"run", actionlint, "-no-color"}, glob(t, ".github/workflows/*.yml")...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestActionsArePinned checks that every action is one commit, which nobody can
// move, and says which version that is; and that one version is one commit.
func TestActionsArePinned(t *testing.T) {
	uses := regexp.MustCompile(`uses:\s*(\S+)(.*)`)
	pinned := regexp.MustCompile(`^([\w.-]+/[\w.-]+)(?:/[\w./-]+)?@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)$`)
	commits := map[string]string{}
	for _, path := range glob(t, ".github/workflows/*.yml") {
		for _, m := range uses.FindAllStringSubmatch(string(read(t, path)), -1) {
			p := pinned.FindStringSubmatch(m[1] + m[2])
			if p == nil {
				t.Errorf("%s uses %s%s, which is no commit with its version behind it", path, m[1], m[2])
				continue
			}
			if other, ok := commits[p[1]]; ok && other != p[2]+p[3] {
				t.Errorf("%s uses another %s than elsewhere", path, p[1])
			}
			commits[p[1]] = p[2] + p[3]
		}
	}
}

// TestWorkflowsGrantLittle checks that each workflow grants nothing but what a
// job asks for.
func TestWorkflowsGrantLittle(t *testing.T) {
	for _, path := range glob(t, ".github/workflows/*.yml") {
		var w struct {
			Permissions map[string]string
			Jobs        map[string]struct {
				Permissions map[string]string
				Timeout     int `json:"timeout-minutes"`
			}
		}
		content := read(t, path)
		if err := yaml.Unmarshal(content, &w); err != nil {
			t.Fatal(err)
		}
		if w.Permissions == nil || len(w.Permissions) != 0 {
			t.Errorf("%s grants all its jobs %v", path, w.Permissions)
		}
		for name, job := range w.Jobs {
			if job.Permissions == nil || job.Timeout == 0 {
				t.Errorf("job %s of %s lacks permissions or a time limit", name, path)
			}
		}
		if got, want := strings.Count(string(content), "persist-credentials: false"), strings.Count(string(content), "uses: actions/checkout@"); got != want {
			t.Errorf("%s leaves its token in the work tree of %d checkouts", path, want-got)
		}
	}
}

// TestWorkflowsCallMakeTargets checks that what they call is there.
func TestWorkflowsCallMakeTargets(t *testing.T) {
	makefile := string(read(t, inRoot("Makefile")))
	for _, path := range glob(t, ".github/workflows/*.yml") {
		for _, m := range regexp.MustCompile(`(?m)run: .*\bmake ([a-z0-9-]+)`).FindAllStringSubmatch(string(read(t, path)), -1) {
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s calls make %s, which the Makefile does not have", path, m[1])
			}
		}
	}
}

func TestDependabotKnowsEveryModule(t *testing.T) {
	var config struct {
		Updates []struct {
			Ecosystem   string `json:"package-ecosystem"`
			Directories []string
		}
	}
	if err := yaml.Unmarshal(read(t, inRoot(".github/dependabot.yml")), &config); err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, u := range config.Updates {
		if u.Ecosystem == "gomod" {
			known = u.Directories
		}
	}
	for _, pattern := range []string{"go.mod", "internal/*/go.mod"} {
		for _, path := range glob(t, pattern) {
			dir := strings.TrimSuffix(strings.TrimPrefix(strings.ReplaceAll(path, `\`, "/"), "../.."), "/go.mod")
			if dir == "" {
				dir = "/"
			}
			found := false
			for _, k := range known {
				found = found || k == dir
			}
			if !found {
				t.Errorf("dependabot.yml does not know the module in %s", dir)
			}
		}
	}
}
