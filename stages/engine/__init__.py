"""Ray Data: started, told what a run may use, and streamed through the steps of a job. Knows no table."""
