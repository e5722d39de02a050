package sqlitefile

import (
	"errors"

	"golang.org/x/sys/unix"
)

// networkFilesystems are those whose locks and write order SQLite cannot rely on, by the magic number of statfs(2).
var networkFilesystems = map[int64]string{
	0x6969: "NFS", 0xff534d42: "CIFS", 0xfe534d42: "SMB2", 0x517b: "SMB", 0x5346414f: "AFS", 0x73757245: "Coda",
	0x564c: "NCP", 0x01021997: "9P", 0x00c36400: "Ceph", 0x0bd00bd0: "Lustre",
}

func refuseNetworkFilesystem(folder string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(folder, &st); err != nil {
		return err
	}
	if name, ok := networkFilesystems[int64(st.Type)]; ok { //nolint:unconvert // its type differs by platform
		return errors.New("the folder is on " + name + ", a network filesystem, where SQLite may lose data; configure a local path")
	}
	return nil
}
