package caddymodule

import (
	"log/slog"
	"slices"
	"strings"
)

// Substitutes for what is not known before provisioning.
const (
	standInSecret = "whsec_c3RhbmQtaW4gc2VjcmV0IG9mIDI0IGJ5dGVz" // has the form of every kind of secret
	standInKey    = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
	standInURL    = "https://stand-in.example/"
)

// checkSecrets is checkTexts for secrets.
func checkSecrets(secrets []string) ([]string, error) { return checkTexts(secrets, standInSecret) }

// checkTexts returns the texts with a stand-in for each that holds placeholders, so that everything else can be checked
// while a Caddyfile is adapted, where neither the environment nor the files need be those of the gateway.
func checkTexts(texts []string, standIn string) ([]string, error) {
	checked := slices.Clone(texts)
	for i, s := range texts {
		if err := checkPlaceholders(s); err != nil {
			return nil, err
		}
		if hasPlaceholder(s) {
			checked[i] = standIn
		}
	}
	return checked, nil
}

// resolveSecrets replaces the placeholders of secrets.
func resolveSecrets(secrets []string) ([]string, error) {
	resolved := make([]string, len(secrets))
	for i, s := range secrets {
		var err error
		if resolved[i], err = resolve(s); err != nil {
			return nil, err
		}
	}
	return resolved, nil
}

// literal reports whether a secret is in the configuration itself.
func literal(secrets []string) bool {
	return slices.ContainsFunc(secrets, func(s string) bool { return s != "" && !hasPlaceholder(s) })
}

// literalHeader reports whether a header whose name is usually that of a secret has its value in the configuration itself.
func literalHeader(header map[string]string) bool {
	for name, value := range header {
		secret := slices.ContainsFunc([]string{"auth", "key", "token", "secret", "password", "cookie"}, func(s string) bool {
			return strings.Contains(strings.ToLower(name), s)
		})
		if secret && literal([]string{value}) {
			return true
		}
	}
	return false
}

// literalQuery reports whether the query of a URL is in the configuration itself.
func literalQuery(url string) bool {
	_, query, _ := strings.Cut(url, "?")
	return literal([]string{query})
}

// warnOfLiteral logs that a secret, or what may hold one, is in the configuration itself.
func warnOfLiteral(log *slog.Logger, what string, args ...any) {
	log.Warn(what+" is in the config, where the admin API shows it; use {env.NAME} or {file./path}", args...)
}

// warnOfLiteralQuery logs whether the query of a URL, which may hold a token, is in the configuration itself.
func warnOfLiteralQuery(log *slog.Logger, field, url string, args ...any) {
	if literalQuery(url) {
		warnOfLiteral(log, "the query of "+field+", which may hold a token,", args...)
	}
}
