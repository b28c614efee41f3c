"""What the commands print: tables for people, JSON for machines. No node is asked here."""
