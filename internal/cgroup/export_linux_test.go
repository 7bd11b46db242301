package cgroup

// OpenUnified makes a pool in the hierarchy of version 2, below the group of this process, which need not have controllers.
func OpenUnified(claim bool) (*Pool, error) {
	h, err := findUnified()
	if err != nil {
		return nil, err
	}
	parent, err := h.place(nil, claim)
	if err != nil {
		return nil, err
	}
	return open(Limits{}, true, nil, parent)
}

// Unified is the folder of this process's group of version 2.
func Unified() (string, error) {
	h, err := findUnified()
	return h.own, err
}

// findUnified asks for a controller that no hierarchy of version 1 has.
func findUnified() (hierarchy, error) { return find("none of version 1") }

// Dirs are the folders of a group.
func (g *Group) Dirs() []string { return g.dirs }

// Dirs are the folders of a pool.
func (p *Pool) Dirs() (all []string) {
	for _, d := range p.dirs {
		all = append(all, d.path)
	}
	return all
}
