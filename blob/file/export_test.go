package file

// RenameNoReplace is exported for tests: most file systems have links, so that nothing else gets there.
var RenameNoReplace = renameNoReplace
