-- `told` has a bit for each threshold that was told of; `slices` is what was spent in each slice of a rolling window, the
-- newest first. An element of `pots` in a reservation has the limit behind the start.
ALTER TABLE tollgate_pots ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tollgate_pots ADD COLUMN slices TEXT;
ALTER TABLE tollgate_reservations DROP COLUMN remaining;
