package caddymodule

import "slices"

// standIn takes the place of a secret that is not known before provisioning: it has the form of every kind of secret.
const standIn = "whsec_c3RhbmQtaW4gc2VjcmV0IG9mIDI0IGJ5dGVz"

// checkSecrets gives the secrets with a stand-in for each that holds placeholders, so that everything else can be checked
// while a Caddyfile is adapted, where neither the environment nor the files need be those of the gateway.
func checkSecrets(secrets []string) ([]string, error) {
	checked := slices.Clone(secrets)
	for i, s := range secrets {
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

// literal says that a secret stands in the configuration itself.
func literal(secrets []string) bool {
	return slices.ContainsFunc(secrets, func(s string) bool { return s != "" && !hasPlaceholder(s) })
}
