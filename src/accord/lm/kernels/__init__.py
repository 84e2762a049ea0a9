"""Operations made fast, each against the plain one."""
