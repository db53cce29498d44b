"""RoIPool, RoIWarp and RoIAlign on the same boxes: one object's masks, and the same in numbers, for the page of table 2c."""
