package caddymodule

import (
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/callbackrelay/caddy-relay/relay/archive"
)

// archiveOptions are the subdirectives that all archives have.
const archiveOptions = "hosts, max_size, timeout, stall, retry, url_prefix, before_delivery, stages, insecure"

// UnmarshalCaddyfile sets up the archive from Caddyfile tokens. Syntax:
//
//	file <dir> {
//	    keep <duration>
//	    hosts <host|*.domain|ip|cidr>...
//	    max_size <size>
//	    timeout <duration>
//	    stall <duration>
//	    retry <delay>... | exponential <first> <longest> <count> | off
//	    url_prefix <URL>
//	    before_delivery
//	    stages <stage>...
//	    insecure
//	}
func (a *FileArchive) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the archive's name
	args, err := arguments(d, "archive file <dir> { ... }", 1, 1)
	if err != nil {
		return err
	}
	start := here(d)
	a.Dir = args[0]
	for d.NextBlock(0) {
		if d.Val() == "keep" {
			err = setDuration(d, "keep", &a.Keep)
		} else {
			err = a.subdirective(d, "keep, "+archiveOptions)
		}
		if err != nil {
			return err
		}
	}
	if err := checkPlaceholders(a.Dir); err != nil {
		return start.errf("archive file: dir: %w", err)
	}
	if _, err := a.build(a.Dir); err != nil {
		return start.errf("archive file: %w", err)
	}
	return nil
}

// UnmarshalCaddyfile sets up the archive from Caddyfile tokens. Syntax:
//
//	s3 <bucket> {
//	    endpoint <host[:port]>
//	    region <region>
//	    access_key <secret>
//	    secret_key <secret>
//	    path_style
//	    prefix <prefix>
//	    hosts <host|*.domain|ip|cidr>...
//	    max_size <size>
//	    timeout <duration>
//	    stall <duration>
//	    retry <delay>... | exponential <first> <longest> <count> | off
//	    url_prefix <URL>
//	    before_delivery
//	    stages <stage>...
//	    insecure
//	}
//
// endpoint, access_key and secret_key are required.
func (a *S3Archive) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the archive's name
	args, err := arguments(d, "archive s3 <bucket> { ... }", 1, 1)
	if err != nil {
		return err
	}
	start := here(d)
	a.Bucket = args[0]
	for d.NextBlock(0) {
		switch name := d.Val(); name {
		case "endpoint":
			err = setText(d, "endpoint <host[:port]>", &a.Endpoint, checkPlaceholders)
		case "region":
			err = setText(d, "region <region>", &a.Region, nil)
		case "access_key", "secret_key":
			to := &a.AccessKey
			if name == "secret_key" {
				to = &a.SecretKey
			}
			err = setText(d, name+" <secret>", to, checkPlaceholders)
		case "path_style":
			err = setFlag(d, &a.PathStyle)
		case "prefix":
			err = setText(d, "prefix <prefix>", &a.Prefix, archive.CheckPrefix)
		default:
			err = a.subdirective(d, "endpoint, region, access_key, secret_key, path_style, prefix, "+archiveOptions)
		}
		if err != nil {
			return err
		}
	}
	if _, err := a.build(func(field, s string) (string, error) {
		if s == "" {
			return "", fmt.Errorf("expected %s", field)
		}
		if hasPlaceholder(s) {
			return "stand-in.example", nil
		}
		return s, nil
	}); err != nil {
		return start.errf("archive s3: %w", err)
	}
	return nil
}

// subdirective reads one of archiveOptions; expected lists all that there are.
func (p *ArchivePolicy) subdirective(d *caddyfile.Dispenser, expected string) error {
	at := here(d)
	var err error
	switch name := d.Val(); name {
	case "hosts":
		err = setList(d, "hosts <host|*.domain|ip|cidr>...", &p.Hosts, func(list []string) error {
			_, err := parseHosts(list)
			return err
		})
	case "max_size":
		err = set(d, "max_size <size>", &p.MaxSize, parseMaxSize)
	case "timeout":
		err = setDuration(d, name, &p.Timeout)
	case "stall":
		err = setDuration(d, name, &p.Stall)
	case "retry":
		err = setRetry(d, &p.Retry)
	case "url_prefix":
		err = setText(d, "url_prefix <URL>", &p.URLPrefix, nil)
	case "before_delivery":
		err = setFlag(d, &p.BeforeDelivery)
	case "stages":
		err = setList(d, "stages <stage>...", &p.Stages, func(list []string) error {
			_, err := parseStages(list)
			return err
		})
	case "insecure":
		err = setFlag(d, &p.Insecure)
	default:
		return errUnknown(d, expected)
	}
	if err != nil {
		return err
	}
	if err := p.check(); err != nil {
		return at.errf("%w", err)
	}
	return nil
}

func parseMaxSize(s string) (int64, error) {
	size, err := humanize.ParseBytes(s)
	if err != nil || checkMaxSize(int64(size)) != nil {
		return 0, fmt.Errorf("expected a size up to 100GiB such as 512MiB, got %q", s)
	}
	return int64(size), nil
}

// setFlag reads a subdirective without arguments, which may stand once.
func setFlag(d *caddyfile.Dispenser, to *bool) error {
	if *to {
		return errRepeated(d, d.Val())
	}
	*to = true
	_, err := arguments(d, d.Val(), 0, 0)
	return err
}
