package main

import (
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/config"
)

// flagTables renders every flag and variable for the documentation.
func flagTables() string {
	c := config.New()
	var b strings.Builder
	b.WriteString("\n")
	flagTable(&b, c.Settings())
	for _, command := range config.Commands() {
		fmt.Fprintf(&b, "\n## `%s`\n\n%s\n", command.Name, command.Help)
		if settings := c.CommandSettings(command.Name); len(settings) > 0 {
			b.WriteString("\n")
			flagTable(&b, settings)
		}
	}
	b.WriteString("\n")
	return b.String()
}

func flagTable(b *strings.Builder, settings []config.Setting) {
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

// keyTables renders every key of the configuration file for the documentation.
func keyTables() string {
	var b strings.Builder
	table := func(title string, rows [][4]string) {
		fmt.Fprintf(&b, "\n%s\n\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n", title)
		for _, row := range rows {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", code(row[0]), row[1], row[2], row[3])
		}
	}
	table("At the top:", [][4]string{
		{"metric_relabel_configs", "list of rules", "none", "Relabelling rules for all organizations."},
		{"services", "mapping", "all services", "Which services to export."},
		{"organizations", "list", "one, from flags and environment", "Organizations to poll."},
	})
	table("In `services`:", [][4]string{
		{"include", "list of filters", "all services", "Services to export."},
		{"exclude", "list of filters", "none", "Services not to export."},
	})
	table("In each filter:", [][4]string{
		{"ids", "list of ids", "any", "The service's id is one of these."},
		{"name", "regular expression", "any", "Its name matches."},
		{"region", "regular expression", "any", "Its region matches."},
		{"state", "regular expression", "any", "Its state matches; the service comes and goes with its state."},
		{"tags", "mapping of tag keys to regular expressions", "any", `It has each of these tags, and the values match; ` + "`\"\"`" + ` matches a tag without a value.`},
	})
	var rows [][4]string
	settings := config.New().Settings()
	for _, s := range settings {
		if s.Key == "" {
			continue
		}
		meaning := s.Help
		for _, other := range settings {
			if other.Flag != "" && other.Key != "" {
				meaning = strings.ReplaceAll(meaning, "--"+other.Flag, other.Key)
			}
		}
		kind, without := "value", "none"
		switch {
		case s.List:
			kind = "list"
		case s.File:
			kind = "file name"
		}
		if s.Flag != "" && s.Flag != "api.organization-id" {
			without = code("--" + s.Flag)
		}
		rows = append(rows, [4]string{s.Key, kind, without, cell(meaning)})
	}
	table("In each of `organizations`:", append(rows,
		[4]string{"services", "mapping", "top-level " + code("services"), "Which services to export, instead of the top-level selection."},
		[4]string{"metric_relabel_configs", "list of rules", "none", "More rules, after the top-level ones."},
	))
	b.WriteString("\n")
	return b.String()
}

// cell makes text fit for a cell of a Markdown table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;", ">", "&gt;").Replace(text)
}

// code returns text as code in a cell of a Markdown table, and nothing for none.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(text, "|", `\|`) + "`"
}
