-- Sections above the device's clearance whose sealed bytes are kept until somebody else has them.
CREATE INDEX sections_hidden ON sections (section) WHERE state = 7 AND sealed IS NOT NULL;
