package jobplan

import (
	"math"
	"strconv"
	"strings"

	"github.com/f708428e/engine/internal/expression"
	"github.com/f708428e/engine/internal/fit"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// What a job file may say of values that are found in the data.
const (
	orderValue     = "value"
	orderFrequency = "frequency"
	methodStandard = "standard"
	methodMinMax   = "min_max"
)

func validateCategories(field string, columns []*enginev1.CategoryColumn, fitted string) error {
	names := make([]string, len(columns))
	open := 0
	for i, c := range columns {
		at := indexed(field, i)
		names[i] = c.GetName()
		switch n := len(c.GetCategories()); {
		case c.GetName() == "":
			return invalid(at+".name", "required")
		case n > fit.MaxCategories:
			return invalid(at+".categories", "%d categories, at most %d are allowed", n, fit.MaxCategories)
		case n > 0 && c.GetOrder() != "":
			return invalid(at+".order", "categories that are given have an order").WithHint("leave one of the two out")
		case c.GetOrder() != "" && fitted != "":
			return invalid(at+".order", "the categories of fitted have an order")
		case n == 0:
			open++
		}
		if err := validateOnce(c.GetCategories(), func(j int) string { return indexed(at+".categories", j) }); err != nil {
			return err
		}
		if err := oneOf(at+".unknown", c.GetUnknown(), []string{"error", "ignore"}); err != nil {
			return err
		}
		if err := oneOf(at+".order", c.GetOrder(), []string{orderValue, orderFrequency}); err != nil {
			return err
		}
	}
	if err := validateFeatures(field, names); err != nil {
		return err
	}
	return validateFitted(field, fitted, open)
}

// validateFeatures refuses a step without columns, and a column that comes twice.
func validateFeatures(field string, names []string) error {
	if len(names) == 0 {
		return invalid(field, "required")
	}
	if len(names) > maxColumns {
		return invalid(field, "%d columns, at most %d are allowed", len(names), maxColumns)
	}
	return validateOnce(names, func(i int) string { return indexed(field, i) + ".name" })
}

// validateOnce refuses a text that comes twice; field names the place of each.
func validateOnce(texts []string, field func(i int) string) error {
	seen := make(map[string]int, len(texts))
	for i, text := range texts {
		if j, ok := seen[text]; ok {
			return invalid(field(i), "%q stands in %s already", text, field(j))
		}
		seen[text] = i
	}
	return nil
}

func validateScale(field string, columns []*enginev1.ScaledColumn, fitted string) error {
	names := make([]string, len(columns))
	open := 0
	for i, c := range columns {
		at := indexed(field, i)
		names[i] = c.GetName()
		if err := oneOf(at+".method", c.GetMethod(), []string{methodStandard, methodMinMax}); err != nil {
			return err
		}
		byMean, byRange := c.Mean != nil && c.Std != nil, c.Min != nil && c.Max != nil
		switch {
		case c.GetName() == "":
			return invalid(at+".name", "required")
		case !scaleGiven(c):
			open++
			continue
		case byMean == byRange, byMean && (c.Min != nil || c.Max != nil), byRange && (c.Mean != nil || c.Std != nil):
			return invalid(at, "set either mean and std, or min and max, or none of them to find them in the data")
		case byMean && c.GetMethod() == methodMinMax, byRange && c.GetMethod() == methodStandard:
			return invalid(at+".method", "%s does not go with the numbers that are given", c.GetMethod())
		}
		for _, given := range []struct {
			name  string
			value *float64
		}{{"mean", c.Mean}, {"std", c.Std}, {"min", c.Min}, {"max", c.Max}} {
			if v := given.value; v != nil && (math.IsNaN(*v) || math.IsInf(*v, 0)) {
				return invalid(at+"."+given.name, "%v is no finite number", *v)
			}
		}
		switch {
		case byMean && c.GetStd() < 0:
			return invalid(at+".std", "%v must not be below 0", c.GetStd())
		case byRange && c.GetMax() < c.GetMin():
			return invalid(at+".max", "%v must not be below min, which is %v", c.GetMax(), c.GetMin())
		case byRange && math.IsInf(c.GetMax()-c.GetMin(), 0):
			return invalid(at+".max", "%v is too far from min, which is %v", c.GetMax(), c.GetMin())
		}
	}
	if err := validateFeatures(field, names); err != nil {
		return err
	}
	return validateFitted(field, fitted, open)
}

// oneHotNames are the columns that a step one_hot makes of one.
func oneHotNames(c *enginev1.CategoryColumn) []string {
	names := make([]string, len(c.GetCategories()))
	for i, category := range c.GetCategories() {
		names[i] = c.GetName() + "_" + category
	}
	return names
}

func (b *binder) bindOneHot(field string, columns []*enginev1.CategoryColumn) (step, error) {
	var values []calculated
	drop := map[string]string{}
	for i, c := range columns {
		if _, err := b.places(indexed(field, i), []string{c.GetName()}); err != nil {
			return step{}, err
		}
		drop[c.GetName()] = field
		if err := b.fitCategories(indexed(field, i), c); err != nil {
			return step{}, err
		}
		b.fitOneHot(c)
	}
	made := map[string]bool{}
	for i, c := range columns {
		at := indexed(field, i)
		for j, name := range oneHotNames(c) {
			if made[name] || b.find(name) >= 0 {
				return step{}, invalid(at, "%q would be a second column of that name in the table of %s", name, b.table).WithHint("rename the column")
			}
			made[name] = true
			// One column says of all categories that a value is none of them.
			strict := c.GetUnknown() != "ignore" && j == 0
			values = append(values, calculated{at, name, expression.Indicator(c.GetName(), c.GetCategories(), j, strict)})
		}
	}
	return b.calculate(values, drop)
}

func (b *binder) bindIndex(field string, columns []*enginev1.CategoryColumn) (step, error) {
	var values []calculated
	for i, c := range columns {
		at := indexed(field, i)
		if _, err := b.places(at, []string{c.GetName()}); err != nil {
			return step{}, err
		}
		if err := b.fitCategories(at, c); err != nil {
			return step{}, err
		}
		values = append(values, calculated{at, c.GetName(), expression.Position(c.GetName(), c.GetCategories(), c.GetUnknown() != "ignore")})
	}
	return b.calculate(values, nil)
}

func (b *binder) bindScale(field string, columns []*enginev1.ScaledColumn) (step, error) {
	var values []calculated
	for i, c := range columns {
		at := indexed(field, i)
		if _, err := b.places(at, []string{c.GetName()}); err != nil {
			return step{}, err
		}
		b.fitScale(c)
		zero, one := c.GetMean(), c.GetStd()
		if c.Min != nil {
			zero, one = c.GetMin(), c.GetMax()-c.GetMin()
		}
		if one == 0 { // All values are the same, or the numbers are not known yet.
			one = 1
		}
		number := func(f float64) string { return strconv.FormatFloat(f, 'e', -1, 64) }
		name := `"` + strings.ReplaceAll(c.GetName(), `"`, `""`) + `"`
		text := "(" + name + " - " + number(zero) + ") / " + number(one)
		value, err := expression.Parse(text)
		if err != nil {
			return step{}, invalid(at, "%w", err)
		}
		values = append(values, calculated{at, c.GetName(), value})
	}
	return b.calculate(values, nil)
}
