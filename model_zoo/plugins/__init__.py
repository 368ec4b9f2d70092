"""The zoo in other libraries."""
