module mailhaul

go 1.26.8
