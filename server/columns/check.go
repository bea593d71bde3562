// SPDX-License-Identifier: Apache-2.0

package columns

import (
	"fmt"
	"time"
)

// check holds p to what every profile must be, wherever it comes from. What is
// checked here relies on nothing but that p.Strings is there.
func (p *Profile) check() error {
	for _, step := range []func() error{p.checkHead, p.checkStrings, p.checkTypeNames, p.checkValues} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (p *Profile) checkHead() error {
	switch {
	case p.Start <= 0:
		return fmt.Errorf("read time: it is missing or before 1970")
	case p.Duration < 0 || p.Duration > int64(MaxDuration):
		return fmt.Errorf("read duration: %v, want 0 or more and at most %v", time.Duration(p.Duration), MaxDuration)
	case p.Start+p.Duration < 0:
		return fmt.Errorf("read time: the profile ends after the year 2262")
	case p.Period < 0:
		return fmt.Errorf("read period: %d, want 0 or more", p.Period)
	}
	return checkTypes(len(p.Types))
}

func checkTypes(n int) error {
	if n < 1 || n > MaxTypes {
		return fmt.Errorf("read sample types: there are %d, want 1 to %d", n, MaxTypes)
	}
	return nil
}

// checkStrings checks every reference to a string.
func (p *Profile) checkStrings() error {
	highest := max(p.PeriodType.Type, p.PeriodType.Unit)
	for _, t := range p.Types {
		highest = max(highest, t.Type, t.Unit)
	}
	for _, m := range p.Mappings {
		highest = max(highest, m.File, m.BuildID)
	}
	for _, f := range p.Functions {
		highest = max(highest, f.Name, f.SystemName, f.File)
	}
	for _, l := range p.labels {
		highest = max(highest, l.Key, l.Text, l.Unit)
	}
	if int64(highest) >= int64(len(p.Strings)) {
		return p.missingString(uint64(highest))
	}
	return nil
}

func (p *Profile) missingString(ref uint64) error {
	return fmt.Errorf("find string %d: there are %d", ref, len(p.Strings))
}

// checkTypeNames wants types by which the values can be told apart.
func (p *Profile) checkTypeNames() error {
	seen := make(map[[2]string]bool, len(p.Types))
	for _, t := range p.Types {
		name := [2]string{p.Strings[t.Type], p.Strings[t.Unit]}
		if name[0] == "" || seen[name] {
			return fmt.Errorf("read sample types: %s/%s has no name or is there twice", name[0], name[1])
		}
		seen[name] = true
	}
	return nil
}

func (p *Profile) checkValues() error {
	for i, column := range p.Values {
		var sum int64
		for _, v := range column {
			if v < 0 {
				return fmt.Errorf("read samples: a value of %s is %d, want 0 or more", p.Strings[p.Types[i].Type], v)
			}
			if sum += min(v, maxTotal+1); sum > maxTotal {
				return fmt.Errorf("read samples: the sum of %s is above %d", p.Strings[p.Types[i].Type], int64(maxTotal))
			}
		}
	}
	return nil
}
