-- Version 5: two sources may have the same files, of which each looks at a part of its own.

CREATE TABLE new_paths (
    path        BLOB NOT NULL,
    source      BLOB NOT NULL,
    image       TEXT NOT NULL REFERENCES images (id),
    bytes       INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    changed_ns  INTEGER NOT NULL,
    gone        INTEGER,                     -- when the file was found to have gone, Unix time, s; NULL while it is there
    PRIMARY KEY (path, source)
) STRICT, WITHOUT ROWID;
INSERT INTO new_paths SELECT path, source, image, bytes, modified_ns, changed_ns, gone FROM paths;
DROP TABLE paths;
ALTER TABLE new_paths RENAME TO paths;
CREATE INDEX paths_by_image ON paths (image, source);
CREATE INDEX paths_gone ON paths (gone) WHERE gone IS NOT NULL;

CREATE TABLE new_quarantine (
    path        BLOB NOT NULL,
    source      BLOB NOT NULL,
    reason      TEXT NOT NULL,
    added       INTEGER NOT NULL,            -- Unix time, s
    bytes       INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    changed_ns  INTEGER NOT NULL,
    PRIMARY KEY (path, source)
) STRICT, WITHOUT ROWID;
INSERT INTO new_quarantine SELECT path, source, reason, added, bytes, modified_ns, changed_ns FROM quarantine;
DROP TABLE quarantine;
ALTER TABLE new_quarantine RENAME TO quarantine;
CREATE INDEX quarantine_by_source ON quarantine (source);

-- They went with the tables.
CREATE TRIGGER path_added AFTER INSERT ON paths
WHEN NOT EXISTS (SELECT 1 FROM paths WHERE image = NEW.image AND source = NEW.source AND path <> NEW.path) BEGIN
    INSERT INTO sources VALUES (NEW.source, 1, 0) ON CONFLICT (source) DO UPDATE SET images = images + 1;
END;
CREATE TRIGGER path_removed AFTER DELETE ON paths
WHEN NOT EXISTS (SELECT 1 FROM paths WHERE image = OLD.image AND source = OLD.source) BEGIN
    UPDATE sources SET images = images - 1 WHERE source = OLD.source;
END;
CREATE TRIGGER file_quarantined AFTER INSERT ON quarantine BEGIN
    INSERT INTO sources VALUES (NEW.source, 0, 1) ON CONFLICT (source) DO UPDATE SET quarantined = quarantined + 1;
END;
CREATE TRIGGER file_released AFTER DELETE ON quarantine BEGIN
    UPDATE sources SET quarantined = quarantined - 1 WHERE source = OLD.source;
END;
