package config

import (
	"fmt"
	"strings"
)

// FlagTables renders every flag and variable for the documentation.
func FlagTables() string {
	c := New()
	var b strings.Builder
	b.WriteString("\n")
	flagTable(&b, c.Settings())
	for _, command := range Commands() {
		fmt.Fprintf(&b, "\n### `%s`\n\n%s\n", command.Name, command.Help)
		if settings := c.CommandSettings(command.Name); len(settings) > 0 {
			b.WriteString("\n")
			flagTable(&b, settings)
		}
	}
	b.WriteString("\n")
	return b.String()
}

func flagTable(b *strings.Builder, settings []Setting) {
	b.WriteString("| flag | default | meaning | environment |\n| --- | --- | --- | --- |\n")
	for _, s := range settings {
		flag, variables := "", s.Variables()
		if s.Flag != "" {
			flag = code("--" + s.Flag)
		} else if s.Env == "" {
			continue
		}
		for i, v := range variables {
			variables[i] = code(v)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", flag, code(s.Default), cell(s.Help), strings.Join(variables, ", "))
	}
}

// KeyTables renders every key of the configuration file for the documentation.
func KeyTables() string {
	var b strings.Builder
	table := func(title string, rows [][2]string) {
		fmt.Fprintf(&b, "\n%s\n\n| key | meaning |\n| --- | --- |\n", title)
		for _, row := range rows {
			fmt.Fprintf(&b, "| %s | %s |\n", code(row[0]), row[1])
		}
	}
	const rules = "Relabelling rules, as Prometheus's `metric_relabel_configs`, for every series%s."
	table("At the top:", [][2]string{
		{"metric_relabel_configs", fmt.Sprintf(rules, "")},
		{"services", "Which services to export, for every organization that does not say otherwise."},
		{"organizations", "The organizations to export, instead of the one of flags and environment."},
	})
	var rows [][2]string
	for _, s := range New().Organization.settings() {
		if s.Key == "" {
			continue
		}
		meaning := strings.ReplaceAll(s.Help, ", separated by commas:", ", a list of:")
		for _, other := range New().Organization.settings() {
			if other.Flag != "" && other.Key != "" {
				meaning = strings.ReplaceAll(meaning, "--"+other.Flag, other.Key)
			}
		}
		if meaning = cell(meaning); s.Flag != "" && s.Key != "id" {
			meaning += " Without it: " + code("--"+s.Flag) + "."
		}
		rows = append(rows, [2]string{s.Key, meaning})
	}
	rows = append(rows,
		[2]string{"services", "Which services to export."},
		[2]string{"metric_relabel_configs", fmt.Sprintf(rules, " of the organization, after those for all")},
	)
	table("In each of `organizations`:", rows)
	table("In `services`, both lists of filters:", [][2]string{
		{"include", "Services that match any of these are exported; without it, all services."},
		{"exclude", "Services that match any of these are not."},
	})
	table("In each filter, all of whose conditions must hold:", [][2]string{
		{"ids", "List of ids, any of which the service has."},
		{"name", "Regular expression that matches the whole name."},
		{"region", "Regular expression that matches the whole region."},
		{"state", "Regular expression that matches the whole state."},
		{"tags", "Mapping of tag keys to regular expressions that match the whole value."},
	})
	b.WriteString("\n")
	return b.String()
}

// cell makes text fit for a cell of a table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;", ">", "&gt;").Replace(text)
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(text, "|", `\|`) + "`"
}
